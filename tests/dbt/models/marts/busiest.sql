{{ config(materialized='materialized_view') }}
select origin, dest, count(*) as flights, max(arr_delay) as worst
from {{ ref('stg_flights') }}
group by origin, dest
having count(*) > 1000
