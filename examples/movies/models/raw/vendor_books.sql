{{ config(materialized='scd2', unique_key=['name', 'author'], strategy='check', check_cols='all', hard_deletes='invalidate') }}

select name, author, pages, publisher
from {{ source('vendor', 'books') }}
