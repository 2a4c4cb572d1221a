{{ config(materialized='incremental', incremental_strategy='append') }}

select movie_title, user_email, size_mb, start_at, end_at, _file_name as source_file
from {{ source('internal', 'streams') }}
