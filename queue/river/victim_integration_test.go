package river_test

const victimURL = "RIVER_TEST_VICTIM_URL"

func beTheVictim(string) {}
