{{ config(incremental_strategy='delete+insert', unique_key='customer_id', delete_when='valid_from is null') }}

-- All versions of the customers of which an import is new or corrected, from all of their imports: so an earlier day that
-- comes late takes its place among the others, and one that is corrected leaves nothing behind.
with touched as (
    select distinct customer_id from {{ ref('customers', changes=true) }}
),

imports as (
    select
        *,
        row_number() over (partition by customer_id order by import_date) as place,
        lag(email) over (partition by customer_id order by import_date) as email_before
    from {{ ref('customers') }}
    where customer_id in (select customer_id from touched)
),

numbered as (
    select
        *,
        sum(case when place = 1 or email is distinct from email_before then 1 else 0 end)
            over (partition by customer_id order by import_date) as version
    from imports
),

versions as (
    select
        customer_id,
        email,
        min(import_date) as valid_from,
        last_value(name order by import_date) as name,
        last_value(signup_date order by import_date) as signup_date
    from numbered
    group by customer_id, version, email
)

select
    touched.customer_id,
    versions.name,
    versions.email,
    versions.signup_date,
    versions.valid_from,
    lead(versions.valid_from) over (partition by touched.customer_id order by versions.valid_from) as valid_to,
    lead(versions.valid_from) over (partition by touched.customer_id order by versions.valid_from) is null as is_current
from touched
left join versions on versions.customer_id = touched.customer_id
