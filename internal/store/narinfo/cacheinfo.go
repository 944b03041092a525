package narinfo

import (
	"strconv"
	"strings"
)

// CacheInfoName is the file by which a cache describes itself.
const CacheInfoName = "nix-cache-info"

// DefaultPriority is that of caches that do not say.
const DefaultPriority = 50

// CacheInfo is what a cache says about itself.
type CacheInfo struct {
	StoreDir      string // "" if the cache does not say
	WantMassQuery bool   // it may be asked about many paths
	Priority      int    // lower is asked first
}

// ParseCacheInfo reads the file. Nothing in it is an error: what is not
// understood is not there.
func ParseCacheInfo(text []byte) CacheInfo {
	info := CacheInfo{Priority: DefaultPriority}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		value = strings.Trim(value, " \t\r\n")
		switch key {
		case "StoreDir":
			info.StoreDir = value
		case "WantMassQuery":
			info.WantMassQuery = value == "1"
		case "Priority":
			if n, err := strconv.Atoi(value); err == nil {
				info.Priority = n
			}
		}
	}
	return info
}

// Append writes the file to b. What has its default is left out, so that of a
// cache without wishes only the store directory is written, as Nix does.
func (c CacheInfo) Append(b []byte) []byte {
	b = append(append(append(b, "StoreDir: "...), c.StoreDir...), '\n')
	if c.WantMassQuery {
		b = append(b, "WantMassQuery: 1\n"...)
	}
	if c.Priority != DefaultPriority {
		b = append(strconv.AppendInt(append(b, "Priority: "...), int64(c.Priority), 10), '\n')
	}
	return b
}
