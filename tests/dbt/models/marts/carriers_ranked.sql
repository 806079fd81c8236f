select
    carrier,
    alliance,
    sum(flights) as flights,
    rank() over (order by sum(flights) desc) as place
from {{ ref('daily') }}
group by carrier, alliance
