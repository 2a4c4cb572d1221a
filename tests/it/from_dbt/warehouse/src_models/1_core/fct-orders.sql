{{ config(materialized='dynamic_table', target_lag='1 hour') }}
select * from {{ ref('dim_users', v=1) }} where dbt_scd_id is not null
