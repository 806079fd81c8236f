with flights as (
    select * from {{ ref('stg_flights') }}
)
select
    make_date(2013, f.month::int, f.day::int) as day,
    c.carrier,
    c.alliance,
    s.season,
    count(*) as flights,
    count(*) filter (where f.cancelled) as cancelled,
    round(avg(f.dep_delay)::numeric, 2) as dep_delay
from flights f
join {{ ref('carriers') }} c on c.carrier = f.carrier
join {{ ref('seasons') }} s on s.month = f.month
group by 1, 2, 3, 4
