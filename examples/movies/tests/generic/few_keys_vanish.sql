{# A whole dump that lacks more than this part of what was there is a broken dump: it is refused, and nothing is deleted. #}
{% test few_keys_vanish(model, key, limit) %}
with versions as (
    select
        valid_from,
        valid_to,
        is_current,
        lead(valid_from) over (partition by {{ key | join(', ') }} order by valid_from) as next_from
    from {{ model }}
),

newest as (
    select max(greatest(valid_from, coalesce(valid_to, valid_from))) as delivered_at from versions
),

counted as (
    select
        count(*) filter (where is_current) as there,
        count(*) filter (where valid_to = delivered_at and next_from is null) as gone
    from versions
    cross join newest
)

select * from counted where gone > {{ limit }} * (there + gone)
{% endtest %}
