package gc

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// removeUnusedLinks removes the names that the contents of deleted files have
// in the directory of links: as long as they have one, no space is freed. If
// somebody makes a file of such contents at this moment, it just shares them
// with nobody.
func (c *collection) removeUnusedLinks() error {
	dir, err := os.Open(c.store.RealDir() + "/.links")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for unused links: %w", err)
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(someNames)
		for _, name := range names {
			if err := c.removeUnusedLink(int(dir.Fd()), name); err != nil {
				return fmt.Errorf("removing unused link '%s/%s': %w", dir.Name(), name, err)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking for unused links: %w", err)
		}
	}
}

func (c *collection) removeUnusedLink(dir int, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && st.Nlink == 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if err = unix.Unlinkat(dir, name, 0); err == nil {
			c.freed += st.Blocks * 512
		}
	}
	if errors.Is(err, unix.ENOENT) {
		return nil // somebody else was faster
	}
	return err
}
