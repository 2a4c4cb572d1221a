{{ config(materialized='scd2', unique_key='name', strategy='check', check_cols='all', hard_deletes='invalidate') }}

select
    metadata['name'] as name,
    metadata['birth_date'] as birth_date,
    metadata['died_at'] as died_at,
    nationalities
from {{ source('vendor', 'authors') }}
