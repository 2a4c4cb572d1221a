{# A play begins a session if it is the first of its user, or if the gap before it is more than the limit: exactly the
   limit is still the same session. #}
{% macro begins_session(previous, at) -%}
(
    {{ previous }} is null
    or extract(epoch from {{ at }}) - extract(epoch from {{ previous }}) > {{ var('session_gap_seconds') }}
)
{%- endmacro %}

{# A song is known by its names: ids are often empty. #}
{% macro song_key() -%}
{{ dbt_utils.generate_surrogate_key(['artist_name', 'track_name']) }}
{%- endmacro %}
