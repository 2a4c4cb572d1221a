{{ config(unique_key='userid') }}

select
    userid,
    nullif(gender, '') as gender,
    age,
    nullif(country, '') as country,
    signup as signed_up_on
from {{ source('inbox', 'profiles') }}
