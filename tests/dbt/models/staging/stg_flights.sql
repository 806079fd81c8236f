select
    month,
    day,
    time_hour,
    carrier,
    flight,
    tailnum,
    origin,
    dest,
    dep_delay,
    arr_delay,
    dep_time is null as cancelled
from {{ source('raw', 'flights') }}
