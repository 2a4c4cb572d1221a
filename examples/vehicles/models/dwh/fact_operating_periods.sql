-- An operating period from its plan to its end: the row is completed when it is deleted.
with created as (
    select * from {{ ref('sem_operating_period_events') }} where event = 'create'
),

deleted as (
    select operating_period_id, organization_id, max(event_at) as deleted_at, max(updated_at) as updated_at
    from {{ ref('sem_operating_period_events') }}
    where event = 'delete'
    group by operating_period_id, organization_id
)

select
    created.operating_period_id,
    {{ dbt_utils.generate_surrogate_key(['created.organization_id']) }} as organization_key,
    cast(to_char(created.period_start, '%Y%m%d') as int) as start_date_key,
    created.period_start,
    created.period_finish,
    cast(extract(epoch from created.period_finish - created.period_start) / 60 as bigint) as planned_minutes,
    created.event_at as planned_at,
    deleted.deleted_at,
    created.source_system,
    created.source_file,
    created.load_timestamp,
    created.created_at,
    greatest(created.updated_at, deleted.updated_at) as updated_at,
    'dwh' as layer
from created
left join deleted
    on created.operating_period_id = deleted.operating_period_id
    and created.organization_id = deleted.organization_id
