{# The moment that the clock of the server showed, in UTC. #}
{% macro in_utc(local) -%}
cast(cast({{ local }} as varchar) || '{{ var("file_time_zone") }}' as timestamp with time zone)
{%- endmacro %}

{# An event's own time is within bounds; and so is that of its location, if it has one. #}
{% macro within_bounds(event_at, located_at) -%}
(
    {{ event_at }} >= timestamp '{{ var("events_from") }}' and {{ event_at }} < timestamp '{{ var("events_until") }}'
    and (
        {{ located_at }} is null
        or {{ located_at }} >= timestamp '{{ var("events_from") }}' and {{ located_at }} < timestamp '{{ var("events_until") }}'
    )
)
{%- endmacro %}

{# A place to about a hundred metres: where the traffic is, not who lives there. #}
{% macro mask_place(degrees) -%}
round({{ degrees }}, 3)
{%- endmacro %}
