-- What each load brought: lines, events that were new, events that had come before, and what was left out.
with lines as (
    select load_timestamp, count(*) as lines, count(distinct source_file) as files
    from {{ ref('raw_events') }}
    group by load_timestamp
),

events as (
    select created_at as load_timestamp, count(*) as new_events
    from {{ ref('stg_events') }}
    group by created_at
)

select
    lines.load_timestamp,
    lines.files,
    lines.lines,
    coalesce(events.new_events, 0) as new_events,
    lines.lines - coalesce(events.new_events, 0) as duplicates
from lines
left join events using (load_timestamp)
