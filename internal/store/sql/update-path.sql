update ValidPaths set narSize = ?, hash = ?, ultimate = ?, sigs = ?, ca = ?
where id = ?
