{{ config(materialized='table') }}

select title, duration_mins, original_language, size_mb
from {{ source('internal', 'movies') }}
