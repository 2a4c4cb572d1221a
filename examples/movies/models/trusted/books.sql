select
    {{ title_key('name') }} as name,
    name as display_name,
    author,
    pages,
    publisher
from {{ ref('vendor_books') }}
where is_current
