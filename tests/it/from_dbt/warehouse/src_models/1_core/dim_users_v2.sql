{{ config(materialized='audited_table') }}
select u.id from {{ ref('platform', 'users') }} u
{% for node in graph.nodes.values() %} -- {{ node.name }} {% endfor %}
where '{{ env_var("DBT_ENV_SECRET_KEY") }}' <> '{{ model.batch.id }}'
