// Package testengine starts real Docker engines for tests.
//
// An engine gets a file system, a /run, a data directory and cgroups of its
// own, and the network of the process or of any [testnet.Host]. It needs the
// namespaces that [testnet.Main] makes: they are what ends it when a test is
// killed. scripts/deps engine installs what it runs.
//
// Tests that use it carry the build tag engine.
package testengine
