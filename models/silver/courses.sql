{{ config(unique_key='course_id') }}

-- A column that the catalogue gets later is one of the table, too.
select distinct * replace (trim(title) as title)
from {{ source('bronze', 'courses') }}
