{{ config(materialized='incremental', incremental_strategy='append') }}
select carrier, day, flights, '{{ invocation_id }}' as run
from {{ ref('daily') }}
{% if is_incremental() %}
where day > (select max(day) - 3 from {{ this }})
{% endif %}
