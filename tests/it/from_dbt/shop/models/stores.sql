select 1 as store_id, 'Station' as store
union all
select 2, 'Harbour'
