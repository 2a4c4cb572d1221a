-- Six roles: analysts see reports, scientists what is between, engineers what was delivered, too.
with allowed as (
    select role, split_part(role, '-', 2) as profession, layer
    from {{ ref('layer_access') }}
)

select role, layer
from allowed
where profession = 'analyst' and layer <> 'reporting'
    or profession = 'scientist' and layer not in ('staging', 'semantic', 'dwh')
    or profession = 'engineer' and layer = 'reporting'
