{% snapshot users_history %}
{{ config(target_database='raw', target_schema='s', unique_key='id', strategy='check', check_cols=['id'],
          snapshot_meta_column_names={'dbt_valid_to': 'ended', 'dbt_scd_id': 'scd'}) }}
select * from {{ source('app', 'users') }}
{% endsnapshot %}

{% snapshot events_history %}
select * from {{ ref('base_events') }}
{% endsnapshot %}
