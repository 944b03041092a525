package sandbox

import (
	"fmt"
	"strconv"
	"strings"
)

// A group is an entry of the group file.
type group struct {
	gid     uint32
	members []string
}

// findGroup looks name up in the text of a group file. Lines that are not
// entries are passed over, as the C library does.
func findGroup(text, name string) (group, bool) {
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) != 4 || fields[0] != name {
			continue
		}
		gid, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			continue
		}
		var members []string
		for m := range strings.SplitSeq(fields[3], ",") {
			if m = strings.TrimSpace(m); m != "" {
				members = append(members, m)
			}
		}
		return group{uint32(gid), members}, true
	}
	return group{}, false
}

// userIDs reads the ids of all users from the text of a password file; the
// first entry of a name counts.
func userIDs(text string) map[string]uint32 {
	ids := map[string]uint32{}
	for line := range strings.Lines(text) {
		fields := strings.Split(line, ":")
		if len(fields) < 7 {
			continue
		}
		uid, err := strconv.ParseUint(fields[2], 10, 32)
		if _, seen := ids[fields[0]]; err == nil && !seen {
			ids[fields[0]] = uint32(uid)
		}
	}
	return ids
}

// buildUsers lists the members of the build users group in its order.
func buildUsers(groupText, passwdText, name string, self uint32) ([]User, error) {
	g, ok := findGroup(groupText, name)
	if !ok {
		return nil, fmt.Errorf("the group '%s' specified in 'build-users-group' does not exist", name)
	}
	if len(g.members) == 0 {
		return nil, fmt.Errorf("the build users group '%s' has no members", name)
	}
	ids := userIDs(passwdText)
	users := make([]User, 0, len(g.members))
	for _, m := range g.members {
		uid, ok := ids[m]
		switch {
		case !ok:
			return nil, fmt.Errorf("the user '%s' in the group '%s' does not exist", m, name)
		case uid == 0 || uid == self:
			return nil, fmt.Errorf("the Nix user should not be a member of '%s'", name)
		}
		users = append(users, User{Name: m, UID: uid, GID: g.gid})
	}
	return users, nil
}
