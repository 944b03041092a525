package sandbox

import (
	"fmt"
	"os"
	"path"
	"strconv"

	"gobuild/internal/store/pathlock"
)

// A User is an account that one build at a time runs under. Whoever acquired it
// releases it.
type User struct {
	Name     string // "" for a number without an account
	UID, GID uint32
	lock     *pathlock.File // against others with the same state directory
	claim    *pathlock.File // against others on this machine; nil where that cannot be
}

// Release gives the user back; no process of the build may be left.
func (u *User) Release() {
	if u == nil || u.lock == nil {
		return
	}
	if u.claim != nil {
		u.claim.Close()
	}
	u.lock.Close()
	u.lock, u.claim = nil, nil
}

// Users hands out build users. It is for root: an ordinary user's builds run
// under his own id.
type Users struct {
	StateDir string // locks are in StateDir/userpool or StateDir/userpool2
	Group    string // build-users-group; "" hands out numbers without accounts
	StartID  uint32 // of those numbers; 0 is 872415232
	Count    uint32 // how many ids they may take, 65536 each; 0 is 128 times that

	members []User // of Group, once read
}

// IDsPerBuild is how many ids are set aside for one build, of which only the
// first is used.
const IDsPerBuild = 65536

const (
	defaultStartID = 872415232
	defaultCount   = 128 * IDsPerBuild
)

// Acquire locks a free user, and returns false if all are in use.
func (us *Users) Acquire() (*User, bool, error) {
	if us.Group == "" {
		return us.acquireSlot()
	}
	if us.members == nil {
		if err := us.readGroup(); err != nil {
			return nil, false, err
		}
	}
	return us.acquire("userpool", len(us.members), func(i int) (User, string) {
		u := us.members[i]
		return u, strconv.FormatUint(uint64(u.UID), 10)
	})
}

func (us *Users) readGroup() error {
	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		return fmt.Errorf("reading the group '%s': %w", us.Group, err)
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return fmt.Errorf("reading the users of the group '%s': %w", us.Group, err)
	}
	us.members, err = buildUsers(string(groups), string(passwd), us.Group, uint32(os.Geteuid()))
	return err
}

func (us *Users) acquireSlot() (*User, bool, error) {
	start, count := us.start(), us.Count
	if count == 0 {
		count = defaultCount
	}
	return us.acquire("userpool2", int(count/IDsPerBuild), func(i int) (User, string) {
		id := start + uint32(i)*IDsPerBuild
		return User{UID: id, GID: start}, fmt.Sprintf("slot-%d", i)
	})
}

func (us *Users) start() uint32 {
	if us.StartID == 0 {
		return defaultStartID
	}
	return us.StartID
}

// acquire tries the locks of a pool in order.
func (us *Users) acquire(pool string, n int, candidate func(int) (User, string)) (*User, bool, error) {
	dir := path.Join(us.StateDir, pool)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, false, fmt.Errorf("creating the directory of build user locks: %w", err)
	}
	for i := range n {
		u, name := candidate(i)
		f, ok, err := pathlock.LockFile(path.Join(dir, name), pathlock.Exclusive, pathlock.Try)
		if err != nil {
			return nil, false, err
		}
		if !ok {
			continue
		}
		u.lock = f
		if u.claimed() {
			return &u, true, nil
		}
		u.Release()
	}
	return nil, false, nil
}

// claimDir holds a lock for every user that any store on this machine builds
// with: two stores would otherwise kill each other's builders by user.
const claimDir = "/run/gobuild"

// claimed locks the user for the whole machine. Where there is no place for
// such locks, the store's own must do.
func (u *User) claimed() bool {
	if os.MkdirAll(claimDir, 0o700) != nil {
		return true
	}
	f, ok, err := pathlock.LockFile(fmt.Sprintf("%s/uid-%d", claimDir, u.UID), pathlock.Exclusive, pathlock.Try)
	if err != nil {
		return true
	}
	u.claim = f
	return ok
}

// GID is the group that all of these users build with. Builders outside a
// sandbox need a store that belongs to it.
func (us *Users) GID() (uint32, error) {
	if us.Group == "" {
		return us.start(), nil
	}
	if us.members == nil {
		if err := us.readGroup(); err != nil {
			return 0, err
		}
	}
	return us.members[0].GID, nil
}

// GroupExists tells whether the machine has a group of that name.
func GroupExists(name string) bool {
	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		return false
	}
	_, ok := findGroup(string(groups), name)
	return ok
}
