// Package testnet makes network namespaces into the hosts and routers of a
// test, and the test's own process into one of them.
//
// [Main] puts the whole test binary into namespaces of its own, so whatever a
// test makes (interfaces, namespaces, mounts, children) goes with the process,
// even when that is killed; [MainApart] does so with parts of its tests, at the same
// time. Inside, [Self] is the host under test, [New] makes
// another one and [Connect] runs a cable between two.
//
// Tests that use it carry the build tag netns or engine and need root.
package testnet
