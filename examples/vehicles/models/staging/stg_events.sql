-- Every event once, however often it was delivered: columns are renamed by name, and rows are merged by what an event is.
{{ config(
    unique_key=['event', 'entity', 'event_at', 'organization_id', 'entity_id'],
    merge_exclude_columns=['created_at'],
) }}

with delivered as (
    select
        event,
        "on" as entity,
        "at" as event_at,
        organization_id,
        data['id'] as entity_id,
        data['location']['lat'] as latitude,
        data['location']['lng'] as longitude,
        data['location']['at'] as located_at,
        data['start'] as period_start,
        data['finish'] as period_finish,
        {{ in_utc('recorded_local') }} as recorded_at,
        source_row,
        {{ lineage('staging') }}
    from {{ ref('raw_events', changes=true) }}
    where _change_type = 'insert'
),

-- One run may bring an event in several files: the last of them counts.
numbered as (
    select
        *,
        row_number() over (
            partition by event, entity, event_at, organization_id, entity_id
            order by recorded_at desc, source_file, source_row
        ) as delivery
    from delivered
)

select
    {{ dbt_utils.generate_surrogate_key(['event', 'entity', 'event_at', 'organization_id', 'entity_id']) }} as event_id,
    * except (delivery, source_row)
from numbered
where delivery = 1
