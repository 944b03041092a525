-- of the row id, with the referrers' own ids
select v.id, v.path
from Refs r join ValidPaths v on r.referrer = v.id
where r.reference = ?
