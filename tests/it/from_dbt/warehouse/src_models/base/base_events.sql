{{ config(
    materialized = 'incremental',
    incremental_strategy = 'merge',
    unique_key = 'event_id',
    cluster_by = ['day'],
    partition_by = {'field': 'day', 'data_type': 'date'},
    pre_hook = "delete from {{ this }} where day < '2020-01-01'",
    query_tag = 'events'
) }}

{%- set columns = adapter.get_columns_in_relation(source('app', 'events')) -%}
{%- set days = run_query('select distinct day from raw.days') -%}

select
    payload:user.id::number as user_id,
    parse_json(payload) as payload,
    iff(kind = 'x', 1, 0) as is_x,
    dateadd(day, 1, at) as next_day,
    {{ fivetran_utils.json_extract('payload', 'a') }} as a,
    {{ dbt_utils.get_column_values(ref('countries'), 'code') }} as codes,
    '{{ target.schema }}' as in_schema
from {{ source('app', 'events') }} e
join {{ source('app', 'users') }} u on u.id = e.user_id
join raw.app.devices d on d.id = e.device_id,
lateral flatten(input => e.items) i
{% if target.type == 'snowflake' and is_incremental() %}
where at > (select max(at) from {{ this }})
{% endif %}
