-- An operating period from its plan to its end: the row is completed when it is deleted.
with periods as (
    select
        events.operating_period_id,
        events.organization_id,
        max(events.period_start) filter (where events.event = 'create') as period_start,
        max(events.period_finish) filter (where events.event = 'create') as period_finish,
        max(events.event_at) filter (where events.event = 'create') as planned_at,
        max(events.event_at) filter (where events.event = 'delete') as deleted_at,
        {{ lineage_of_group('dwh', 'events') }}
    from {{ ref('sem_operating_period_events') }} as events
    group by events.operating_period_id, events.organization_id
)

select
    operating_period_id,
    {{ dbt_utils.generate_surrogate_key(['organization_id']) }} as organization_key,
    cast(to_char(period_start, '%Y%m%d') as int) as start_date_key,
    period_start,
    period_finish,
    cast(extract(epoch from period_finish - period_start) / 60 as bigint) as planned_minutes,
    planned_at,
    deleted_at,
    source_system,
    source_file,
    load_timestamp,
    created_at,
    updated_at,
    layer
from periods
