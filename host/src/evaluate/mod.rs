//! Scores and incidents against labels. Comes in: scored rows and labels; goes out: how good they are.
