{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['carrier', 'day'],
    on_schema_change='append_new_columns'
) }}
select carrier, day, flights, cancelled{% if is_incremental() %}, dep_delay{% endif %}
from {{ ref('daily') }}
{% if is_incremental() %}
where day >= (select max(day) from {{ this }}) - interval '7 days'
{% endif %}
