select count(distinct day) as days from {{ ref('daily') }} having count(distinct day) <> 365
