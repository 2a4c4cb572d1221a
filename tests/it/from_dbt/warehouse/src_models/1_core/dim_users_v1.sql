select 1 as id, getdate() as now
