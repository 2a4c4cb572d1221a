select count(size_mb) as streams, median(size_mb) as size_mb
from {{ ref('streams') }}
