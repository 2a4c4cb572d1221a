-- Every line as it was delivered, and never changed. Columns that new kinds of events bring come along.
select
    * except (_file_path, _row_number, _loaded_at),
    '{{ var("source_system") }}' as source_system,
    _file_path as source_file,
    _row_number as source_row,
    _loaded_at as load_timestamp,
    _loaded_at as created_at,
    _loaded_at as updated_at,
    'raw' as layer
from {{ source('fleet', 'events') }}
