package fstree

import "golang.org/x/sys/unix"

// Within tells whether the tree at path has at most that many nodes and bytes
// in files. It looks at no more than it needs to say no, and says no whenever
// it cannot tell.
func Within(path string, maxNodes int, maxBytes int64) bool {
	dir, base, err := split(path)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	m := &measure{nodes: maxNodes, bytes: maxBytes}
	return m.add(dir, base, 0)
}

type measure struct {
	nodes int
	bytes int64
	buf   [4 << 10]byte
}

// measureDepth ends the recursion: a deep tree is not a small one.
const measureDepth = 32

func (m *measure) add(dir int, name string, depth int) bool {
	var st unix.Stat_t
	if m.nodes--; m.nodes < 0 || unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		m.bytes -= st.Size
		return m.bytes >= 0
	}
	if depth == measureDepth {
		return false
	}
	fd, err := OpenAt(dir, name, openDir, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	entries, _, err := list(fd, m.buf[:], nil, m.nodes+1)
	if err != nil || len(entries) > m.nodes {
		return false
	}
	for _, e := range entries {
		if !m.add(fd, e.Name, depth+1) {
			return false
		}
	}
	return true
}
