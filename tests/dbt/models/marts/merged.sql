{{ config(
    materialized='incremental',
    incremental_strategy='merge',
    unique_key='carrier',
    merge_exclude_columns=['first_seen'],
    on_schema_change='sync_all_columns'
) }}
select
    carrier,
    max(day) as last_day,
    sum(flights) as flights,
    current_timestamp as first_seen
from {{ ref('daily') }}
group by carrier
