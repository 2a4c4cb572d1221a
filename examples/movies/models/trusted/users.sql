select lower(trim(email)) as email, first_name, last_name
from {{ ref('internal_users') }}
