package remote_test

import (
	"fmt"
	"testing"

	"gobuild/internal/remote"
	"gobuild/internal/store/storepath"
)

// BenchmarkUpload sends a thousand small paths to a real nix-store.
func BenchmarkUpload(b *testing.B) {
	needNix(b)
	for b.Loop() {
		b.StopTimer()
		near, far := twoStores(b)
		var paths []storepath.Path
		for i := range 1000 {
			p, err := near.AddText(fmt.Sprintf("p%d", i), fmt.Appendf(nil, "contents %d", i), nil)
			if err != nil {
				b.Fatal(err)
			}
			paths = append(paths, p)
		}
		c, err := remote.Dial(&remote.Machine{URI: far}, dialing(near.Dir()))
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := c.Upload(near, paths, false, func(storepath.Path) {}); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
