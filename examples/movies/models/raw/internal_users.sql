{{ config(materialized='table') }}

select first_name, last_name, email
from {{ source('internal', 'users') }}
