//go:build !linux

package bench

// Systems without /proc measure no CPU time and no memory.

func cpuOf(int) float64       { return 0 }
func cpuOfTree(int) float64   { return 0 }
func selfCPU() float64        { return 0 }
func residentBytes(int) int64 { return 0 }
