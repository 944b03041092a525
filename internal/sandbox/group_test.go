package sandbox

import (
	"os"
	"slices"
	"testing"
)

const groupText = "root:x:0:\n# comment\nbroken:x\nnixbld:x:notanumber:a\nnixbld:x:994:nixbld1, nixbld2,,nixbld3\nempty:x:5:\nghost:x:6:nobody-here\nadmin:x:7:boss\n"

const passwdText = "root:x:0:0:root:/root:/bin/sh\nnixbld1:x:999:994::/:/noshell\nnixbld2:x:998:994::/:/noshell\n" +
	"nixbld3:x:997:994::/:/noshell\nnixbld3:x:1:1::/:/noshell\nshort:x:5\nboss:x:42:42::/:/bin/sh\n"

func TestBuildUsers(t *testing.T) {
	got, err := buildUsers(groupText, passwdText, "nixbld", 0)
	want := []User{{Name: "nixbld1", UID: 999, GID: 994}, {Name: "nixbld2", UID: 998, GID: 994}, {Name: "nixbld3", UID: 997, GID: 994}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for name, want := range map[string]string{
		"absent": "the group 'absent' specified in 'build-users-group' does not exist",
		"empty":  "the build users group 'empty' has no members",
		"ghost":  "the user 'nobody-here' in the group 'ghost' does not exist",
		"admin":  "the Nix user should not be a member of 'admin'",
	} {
		if _, err := buildUsers(groupText, passwdText, name, 42); err == nil || err.Error() != want {
			t.Errorf("group %s: %v, want %s", name, err, want)
		}
	}
}

func FuzzBuildUsers(f *testing.F) {
	f.Add(groupText, passwdText, "nixbld")
	f.Add("g:x:1:a\n", "a:x:0:0:::\n", "g")
	f.Fuzz(func(t *testing.T, groups, passwd, name string) {
		users, err := buildUsers(groups, passwd, name, 7)
		if err == nil && len(users) == 0 {
			t.Error("no error and no users")
		}
		for _, u := range users {
			if u.UID == 0 || u.UID == 7 {
				t.Errorf("user %+v may not build", u)
			}
		}
	})
}

func TestUsersLock(t *testing.T) {
	dir, start := t.TempDir(), uint32(1<<29+os.Getpid()%4096*2*IDsPerBuild)
	acquire := func(us *Users) *User {
		u, ok, err := us.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return nil
		}
		t.Cleanup(u.Release)
		return u
	}
	us := Users{StateDir: dir, StartID: start, Count: 2*IDsPerBuild + 5}
	other := Users{StateDir: dir, StartID: start, Count: 2 * IDsPerBuild}
	a, b := acquire(&us), acquire(&other)
	if a == nil || b == nil || a.UID != start || b.UID != start+IDsPerBuild {
		t.Fatalf("got %+v and %+v", a, b)
	}
	if c := acquire(&us); c != nil {
		t.Errorf("a third user %+v out of two", c)
	}
	a.Release()
	a.Release()
	if c := acquire(&other); c == nil || c.UID != start {
		t.Errorf("after a release: %+v", c)
	}
}
