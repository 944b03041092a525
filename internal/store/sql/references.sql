-- of the row id, with the references' own ids
select v.id, v.path
from Refs r join ValidPaths v on r.reference = v.id
where r.referrer = ?
