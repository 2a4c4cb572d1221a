-- The ten busiest; of equally busy ones the order is that of their names, so it is the same in every run.
select rank, vehicle, events, first_event_at, last_event_at
from {{ ref('events_per_vehicle') }}
where rank <= 10
