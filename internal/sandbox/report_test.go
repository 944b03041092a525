package sandbox

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func record(kind byte, numbers ...int32) []byte {
	b := []byte{kind}
	for _, n := range numbers {
		b = binary.NativeEndian.AppendUint32(b, uint32(n))
	}
	return b
}

func newReport() *Report {
	return &Report{fd: -1, own: -1, path: "/bin/sh", diagnose: func(facility, error) string { return "" },
		plan: &plan{steps: []step{{name: "mount", what: "binding '/x'", needs: needsMount}, {name: "execve", what: "executing", needs: needsBuilder}}}}
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		name   string
		stream []byte
		pid    int
		want   string
	}{
		{"executed", record('R'), 0, ""},
		{"executed after a fork", slices.Concat(record('P', 4711), record('R')), 4711, ""},
		{"the successor was faster", slices.Concat(record('R'), record('P', 4711)), 4711, ""},
		{"mount", record('E', 0, int32(unix.ENOENT)), 0, "setting up the build environment: binding '/x': no such file or directory"},
		{"exec", slices.Concat(record('R'), record('E', 1, int32(unix.ENOENT))), 0, "executing '/bin/sh': No such file or directory"},
		{"plan", record('E', 2, int32(unix.ENOEXEC)), 0, "setting up the build environment: reading the plan: exec format error"},
		{"killed", nil, 0, "setting up the build environment: starting the builder: the process died before it could execute it"},
		{"cut off", record('E', 0)[:3], 0, "setting up the build environment: starting the builder: the process died before it could execute it"},
	} {
		for size := 1; size <= len(c.stream)+1; size++ {
			r, pid := newReport(), 0
			for piece := range slices.Chunk(c.stream, size) {
				pid = max(pid, r.Feed(piece))
			}
			got := ""
			if err := r.End(); err != nil {
				got = err.Error()
			}
			if pid != c.pid || got != c.want {
				t.Errorf("%s in pieces of %d: pid %d, %q; want %d, %q", c.name, size, pid, got, c.pid, c.want)
			}
		}
	}
}

func TestReportErrorTypes(t *testing.T) {
	r := newReport()
	r.Feed(slices.Concat(record('R'), record('E', 1, int32(unix.EACCES))))
	var exec *ExecError
	if err := r.End(); !errors.As(err, &exec) || !errors.Is(err, unix.EACCES) {
		t.Errorf("a refused builder gives %#v", err)
	}
	r = newReport()
	r.Feed(record('E', 0, int32(unix.EPERM)))
	var setup *SetupError
	if err := r.End(); !errors.As(err, &setup) || !errors.Is(err, unix.EPERM) {
		t.Errorf("a refused mount gives %#v", err)
	}
}

func FuzzReport(f *testing.F) {
	f.Add(record('P', 1), 1)
	f.Add(record('E', 0, 2), 4)
	f.Add(record('E', -1, 2), 4)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		r := newReport()
		for piece := range slices.Chunk(stream, max(size, 1)) {
			r.Feed(piece)
		}
		if err := r.End(); err == nil && !slices.Contains(stream, 'R') {
			t.Error("success without a mark")
		}
	})
}

func TestDiagnose(t *testing.T) {
	const capable = "Name:\tx\nCapEff:\t000001fffeffffff\n"
	for _, c := range []struct {
		needs facility
		err   error
		files map[string]string
		want  string
	}{
		{needsUserNamespace, unix.ENOSPC, nil, "user.max_user_namespaces"},
		{needsUserNamespace, unix.EPERM, map[string]string{"/proc/sys/user/max_user_namespaces": "0"}, "user.max_user_namespaces"},
		{needsUserNamespace, unix.EPERM, map[string]string{"/proc/sys/kernel/unprivileged_userns_clone": "0"}, "unprivileged_userns_clone to 1"},
		{needsUserMap, unix.EPERM, map[string]string{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"}, "AppArmor"},
		{needsUserNamespace, unix.EPERM, nil, "CLONE_NEWUSER"},
		{needsUserNamespace, unix.EINVAL, nil, "CONFIG_USER_NS"},
		{needsNamespaces, unix.EPERM, map[string]string{"/proc/self/status": "CapEff:\t00000000a80425fb\n"}, "CAP_SYS_ADMIN"},
		{needsNamespaces, unix.EPERM, map[string]string{"/proc/self/status": capable}, "'clone' and 'unshare'"},
		{needsNamespaces, unix.ENOSPC, nil, "too many namespaces"},
		{needsProc, unix.EPERM, nil, "masked"},
		{needsMount, unix.EACCES, nil, "mounting is forbidden"},
		{needsIDs, unix.EINVAL, nil, "does not exist in the user namespace"},
		{needsFilter, unix.EINVAL, nil, "filter-syscalls"},
	} {
		got := diagnoseFrom(c.needs, c.err, func(name string) string { return c.files[name] })
		if !strings.Contains(got, c.want) {
			t.Errorf("diagnosis of %d, %v with %v: %q, want %q in it", c.needs, c.err, c.files, got, c.want)
		}
	}
	if got := diagnoseFrom(needsNothing, unix.ENOENT, func(string) string { return "" }); got != "" {
		t.Errorf("an ordinary error is diagnosed as %q", got)
	}
}
