{{ config(materialized='ephemeral') }}
select
    a.carrier,
    a.airline,
    coalesce(s.alliance, 'none') as alliance
from {{ ref('stg_airlines') }} a
left join {{ ref('alliances') }} s using (carrier)
