select d.id, d.path
from DerivationOutputs d join ValidPaths v on d.drv = v.id
where v.path = ?
order by d.id
