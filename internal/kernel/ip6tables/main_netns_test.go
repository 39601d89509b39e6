//go:build netns

package ip6tables

import (
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

func TestMain(m *testing.M) { testnet.Main(m) }
