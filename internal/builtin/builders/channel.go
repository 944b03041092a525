package builders

import (
	"fmt"
	"os"
	"path/filepath"
)

// unpackChannel unpacks an archive with one directory, which gets the name of
// the channel.
func (b *build) unpackChannel() error {
	values, err := b.attributes("out", "channelName", "src")
	if err != nil {
		return err
	}
	out, name, src := values[0], values[1], values[2]
	if filepath.Base(name) != name || name == "." || name == ".." || name == "/" {
		return fmt.Errorf("channelName is not allowed to contain filesystem separators, got '%s'", name)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(out)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unpack(src, root); err != nil {
		return fmt.Errorf("unpacking '%s': %w", src, err)
	}
	entries, err := os.ReadDir(out)
	if err != nil {
		return err
	}
	if len(entries) != 1 {
		return fmt.Errorf("channel tarball '%s' contains more than one file", src)
	}
	if err := root.Rename(entries[0].Name(), name); err != nil {
		return fmt.Errorf("renaming channel directory: %w", err)
	}
	return nil
}
