{{ config(
    materialized='incremental',
    incremental_strategy='microbatch',
    unique_key='id',
    event_time='day',
    begin='2013-10-01',
    batch_size='month',
    lookback=1
) }}
select day::timestamp as day, carrier || ' ' || day as id, carrier, flights
from {{ ref('daily') }}
