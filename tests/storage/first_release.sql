-- A database of the first release, as `sqlite3 dianjing.db .dump` writes it. Never edit: a test opens it.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE artifact (
	id INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	folder VARCHAR NOT NULL, 
	made_by INTEGER, 
	field VARCHAR NOT NULL, 
	summary JSON NOT NULL, 
	size BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	ready_at DATETIME, 
	deleted_at DATETIME, 
	note VARCHAR NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(made_by) REFERENCES run (id)
);
INSERT INTO "artifact" VALUES(1,'model','model 点睛','artifacts/1',1,'model','{"format": "adapter", "rank": 16}',1234,'2026-11-23 12:00:00.000000','2026-11-23 12:03:00.000000',NULL,'');
INSERT INTO "artifact" VALUES(2,'responses','responses 点睛','artifacts/2',2,'responses','{}',0,'2026-11-23 12:00:00.000000',NULL,NULL,'');
INSERT INTO "artifact" VALUES(3,'report','report 点睛','artifacts/3',3,'report','{}',0,'2026-11-23 12:00:00.000000',NULL,NULL,'');
CREATE TABLE consumed (
	run INTEGER NOT NULL, 
	artifact INTEGER NOT NULL, 
	field VARCHAR NOT NULL, 
	PRIMARY KEY (run, artifact, field), 
	FOREIGN KEY(artifact) REFERENCES artifact (id), 
	FOREIGN KEY(run) REFERENCES run (id)
);
INSERT INTO "consumed" VALUES(2,1,'models.0');
INSERT INTO "consumed" VALUES(3,2,'before');
CREATE TABLE event (
	id INTEGER NOT NULL, 
	run INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	level VARCHAR NOT NULL, 
	message VARCHAR NOT NULL, 
	data JSON NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run) REFERENCES run (id)
);
INSERT INTO "event" VALUES(1,1,'2026-11-23 12:00:00.000000','info','loaded','{"rows": 3}');
CREATE TABLE lock (
	name VARCHAR NOT NULL, 
	pid INTEGER NOT NULL, 
	pid_started VARCHAR NOT NULL, 
	at DATETIME NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "lock" VALUES('dispatcher',42,'boot:1','2026-11-23 12:00:00.000000');
CREATE TABLE metric (
	id INTEGER NOT NULL, 
	run INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	step INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	value FLOAT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run) REFERENCES run (id)
);
INSERT INTO "metric" VALUES(1,1,'2026-11-23 12:00:00.000000',1,'loss',2.0);
INSERT INTO "metric" VALUES(2,1,'2026-11-23 12:00:00.000000',2,'loss',1.0);
INSERT INTO "metric" VALUES(3,1,'2026-11-23 12:00:00.000000',3,'loss',0.6667);
INSERT INTO "metric" VALUES(4,1,'2026-11-23 12:00:00.000000',4,'loss',0.5);
INSERT INTO "metric" VALUES(5,1,'2026-11-23 12:00:00.000000',5,'loss',0.4);
INSERT INTO "metric" VALUES(6,1,'2026-11-23 12:00:00.000000',6,'loss',0.3333);
INSERT INTO "metric" VALUES(7,1,'2026-11-23 12:00:00.000000',7,'loss',0.2857);
INSERT INTO "metric" VALUES(8,1,'2026-11-23 12:00:00.000000',8,'loss',0.25);
INSERT INTO "metric" VALUES(9,1,'2026-11-23 12:00:00.000000',9,'loss',0.2222);
INSERT INTO "metric" VALUES(10,1,'2026-11-23 12:00:00.000000',10,'loss',0.2);
INSERT INTO "metric" VALUES(11,1,'2026-11-23 12:00:00.000000',11,'loss',0.1818);
INSERT INTO "metric" VALUES(12,1,'2026-11-23 12:00:00.000000',12,'loss',0.1667);
INSERT INTO "metric" VALUES(13,1,'2026-11-23 12:00:00.000000',13,'loss',0.1538);
INSERT INTO "metric" VALUES(14,1,'2026-11-23 12:00:00.000000',14,'loss',0.1429);
INSERT INTO "metric" VALUES(15,1,'2026-11-23 12:00:00.000000',15,'loss',0.1333);
INSERT INTO "metric" VALUES(16,1,'2026-11-23 12:00:00.000000',16,'loss',0.125);
INSERT INTO "metric" VALUES(17,1,'2026-11-23 12:00:00.000000',17,'loss',0.1176);
INSERT INTO "metric" VALUES(18,1,'2026-11-23 12:00:00.000000',18,'loss',0.1111);
INSERT INTO "metric" VALUES(19,1,'2026-11-23 12:00:00.000000',19,'loss',0.1053);
INSERT INTO "metric" VALUES(20,1,'2026-11-23 12:00:00.000000',20,'loss',0.1);
INSERT INTO "metric" VALUES(21,1,'2026-11-23 12:00:00.000000',21,'loss',0.0952);
INSERT INTO "metric" VALUES(22,1,'2026-11-23 12:00:00.000000',22,'loss',0.0909);
INSERT INTO "metric" VALUES(23,1,'2026-11-23 12:00:00.000000',23,'loss',0.087);
INSERT INTO "metric" VALUES(24,1,'2026-11-23 12:00:00.000000',24,'loss',0.0833);
INSERT INTO "metric" VALUES(25,1,'2026-11-23 12:00:00.000000',25,'loss',0.08);
INSERT INTO "metric" VALUES(26,1,'2026-11-23 12:00:00.000000',26,'loss',0.0769);
INSERT INTO "metric" VALUES(27,1,'2026-11-23 12:00:00.000000',27,'loss',0.0741);
INSERT INTO "metric" VALUES(28,1,'2026-11-23 12:00:00.000000',28,'loss',0.0714);
INSERT INTO "metric" VALUES(29,1,'2026-11-23 12:00:00.000000',29,'loss',0.069);
INSERT INTO "metric" VALUES(30,1,'2026-11-23 12:00:00.000000',30,'loss',0.0667);
INSERT INTO "metric" VALUES(31,1,'2026-11-23 12:00:00.000000',31,'loss',0.0645);
INSERT INTO "metric" VALUES(32,1,'2026-11-23 12:00:00.000000',32,'loss',0.0625);
INSERT INTO "metric" VALUES(33,1,'2026-11-23 12:00:00.000000',33,'loss',0.0606);
INSERT INTO "metric" VALUES(34,1,'2026-11-23 12:00:00.000000',34,'loss',0.0588);
INSERT INTO "metric" VALUES(35,1,'2026-11-23 12:00:00.000000',35,'loss',0.0571);
INSERT INTO "metric" VALUES(36,1,'2026-11-23 12:00:00.000000',36,'loss',0.0556);
INSERT INTO "metric" VALUES(37,1,'2026-11-23 12:00:00.000000',37,'loss',0.0541);
INSERT INTO "metric" VALUES(38,1,'2026-11-23 12:00:00.000000',38,'loss',0.0526);
INSERT INTO "metric" VALUES(39,1,'2026-11-23 12:00:00.000000',39,'loss',0.0513);
INSERT INTO "metric" VALUES(40,1,'2026-11-23 12:00:00.000000',40,'loss',0.05);
INSERT INTO "metric" VALUES(41,1,'2026-11-23 12:00:00.000000',41,'loss',0.0488);
INSERT INTO "metric" VALUES(42,1,'2026-11-23 12:00:00.000000',42,'loss',0.0476);
INSERT INTO "metric" VALUES(43,1,'2026-11-23 12:00:00.000000',43,'loss',0.0465);
INSERT INTO "metric" VALUES(44,1,'2026-11-23 12:00:00.000000',44,'loss',0.0455);
INSERT INTO "metric" VALUES(45,1,'2026-11-23 12:00:00.000000',45,'loss',0.0444);
INSERT INTO "metric" VALUES(46,1,'2026-11-23 12:00:00.000000',46,'loss',0.0435);
INSERT INTO "metric" VALUES(47,1,'2026-11-23 12:00:00.000000',47,'loss',0.0426);
INSERT INTO "metric" VALUES(48,1,'2026-11-23 12:00:00.000000',48,'loss',0.0417);
INSERT INTO "metric" VALUES(49,1,'2026-11-23 12:00:00.000000',49,'loss',0.0408);
INSERT INTO "metric" VALUES(50,1,'2026-11-23 12:00:00.000000',50,'loss',0.04);
INSERT INTO "metric" VALUES(51,1,'2026-11-23 12:00:00.000000',51,'loss',0.0392);
INSERT INTO "metric" VALUES(52,1,'2026-11-23 12:00:00.000000',52,'loss',0.0385);
INSERT INTO "metric" VALUES(53,1,'2026-11-23 12:00:00.000000',53,'loss',0.0377);
INSERT INTO "metric" VALUES(54,1,'2026-11-23 12:00:00.000000',54,'loss',0.037);
INSERT INTO "metric" VALUES(55,1,'2026-11-23 12:00:00.000000',55,'loss',0.0364);
INSERT INTO "metric" VALUES(56,1,'2026-11-23 12:00:00.000000',56,'loss',0.0357);
INSERT INTO "metric" VALUES(57,1,'2026-11-23 12:00:00.000000',57,'loss',0.0351);
INSERT INTO "metric" VALUES(58,1,'2026-11-23 12:00:00.000000',58,'loss',0.0345);
INSERT INTO "metric" VALUES(59,1,'2026-11-23 12:00:00.000000',59,'loss',0.0339);
INSERT INTO "metric" VALUES(60,1,'2026-11-23 12:00:00.000000',60,'loss',0.0333);
INSERT INTO "metric" VALUES(61,1,'2026-11-23 12:00:00.000000',61,'loss',0.0328);
INSERT INTO "metric" VALUES(62,1,'2026-11-23 12:00:00.000000',62,'loss',0.0323);
INSERT INTO "metric" VALUES(63,1,'2026-11-23 12:00:00.000000',63,'loss',0.0317);
INSERT INTO "metric" VALUES(64,1,'2026-11-23 12:00:00.000000',64,'loss',0.0312);
INSERT INTO "metric" VALUES(65,1,'2026-11-23 12:00:00.000000',65,'loss',0.0308);
INSERT INTO "metric" VALUES(66,1,'2026-11-23 12:00:00.000000',66,'loss',0.0303);
INSERT INTO "metric" VALUES(67,1,'2026-11-23 12:00:00.000000',67,'loss',0.0299);
INSERT INTO "metric" VALUES(68,1,'2026-11-23 12:00:00.000000',68,'loss',0.0294);
INSERT INTO "metric" VALUES(69,1,'2026-11-23 12:00:00.000000',69,'loss',0.029);
INSERT INTO "metric" VALUES(70,1,'2026-11-23 12:00:00.000000',70,'loss',NULL);
CREATE TABLE "plan" (
	id INTEGER NOT NULL, 
	recipe VARCHAR NOT NULL, 
	settings JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "plan" VALUES(1,'quickstart','{"training": {"steps": 70}}','2026-11-23 12:00:00.000000');
CREATE TABLE response (
	id INTEGER NOT NULL, 
	run INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	artifact INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	prompt_key VARCHAR NOT NULL, 
	sample INTEGER NOT NULL, 
	prompt JSON NOT NULL, 
	answer VARCHAR NOT NULL, 
	token_ids JSON NOT NULL, 
	finish_reason VARCHAR NOT NULL, 
	extra JSON NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(artifact) REFERENCES artifact (id), 
	FOREIGN KEY(run) REFERENCES run (id)
);
INSERT INTO "response" VALUES(1,1,'2026-11-23 12:00:00.000000',1,0,'0123456789abcdef',0,'[{"role": "user", "content": "hi"}]','yes','[1, 2]','stop','{}');
CREATE TABLE rollup (
	id INTEGER NOT NULL, 
	run INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	count INTEGER NOT NULL, 
	first_step INTEGER NOT NULL, 
	last_step INTEGER NOT NULL, 
	low_step INTEGER NOT NULL, 
	low FLOAT, 
	high_step INTEGER NOT NULL, 
	high FLOAT, 
	last_metric INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run) REFERENCES run (id)
);
INSERT INTO "rollup" VALUES(1,1,'loss',64,1,64,64,0.0312,1,2.0,64);
INSERT INTO "rollup" VALUES(2,1,'loss',5,65,69,69,0.029,65,0.0308,69);
CREATE TABLE run (
	id INTEGER NOT NULL, 
	stage VARCHAR NOT NULL, 
	settings JSON NOT NULL, 
	status VARCHAR NOT NULL, 
	heavy BOOLEAN NOT NULL, 
	"plan" INTEGER, 
	seed INTEGER NOT NULL, 
	code_version VARCHAR NOT NULL, 
	tags VARCHAR NOT NULL, 
	device VARCHAR, 
	pid INTEGER, 
	pid_started VARCHAR, 
	stop_requested DATETIME, 
	queued_at DATETIME NOT NULL, 
	started_at DATETIME, 
	ended_at DATETIME, 
	step INTEGER NOT NULL, 
	total INTEGER NOT NULL, 
	error VARCHAR, 
	PRIMARY KEY (id), 
	FOREIGN KEY("plan") REFERENCES "plan" (id)
);
INSERT INTO "run" VALUES(1,'finetune','{"training": {"steps": 70}}','succeeded',1,1,0,'0.1.0','',NULL,NULL,NULL,NULL,'2026-11-23 12:00:00.000000','2026-11-23 12:00:00.000000','2026-11-23 12:03:00.000000',0,0,NULL);
INSERT INTO "run" VALUES(2,'generate','{"training": {"steps": 70}}','cancelled',1,1,0,'0.1.0','',NULL,NULL,NULL,NULL,'2026-11-23 12:00:00.000000',NULL,'2026-11-23 12:00:00.000000',0,0,'stopped before it started');
INSERT INTO "run" VALUES(3,'compare_answers','{"training": {"steps": 70}}','skipped',1,1,0,'0.1.0','',NULL,NULL,NULL,NULL,'2026-11-23 12:00:00.000000',NULL,'2026-11-23 12:00:00.000000',0,0,'its input responses 点睛 will not be made: run 2 (generate) cancelled');
CREATE TABLE score (
	id INTEGER NOT NULL, 
	run INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	artifact INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	suite_hash VARCHAR NOT NULL, 
	probe VARCHAR NOT NULL, 
	item_key VARCHAR NOT NULL, 
	value FLOAT, 
	response INTEGER, 
	PRIMARY KEY (id), 
	FOREIGN KEY(artifact) REFERENCES artifact (id), 
	FOREIGN KEY(response) REFERENCES response (id), 
	FOREIGN KEY(run) REFERENCES run (id)
);
INSERT INTO "score" VALUES(1,1,'2026-11-23 12:00:00.000000',1,0,'cafe','facts','1',0.5,1);
CREATE INDEX ix_run_plan ON run ("plan");
CREATE INDEX ix_run_status ON run (status);
CREATE INDEX ix_artifact_kind ON artifact (kind);
CREATE INDEX ix_artifact_made_by ON artifact (made_by);
CREATE INDEX ix_artifact_name ON artifact (name);
CREATE INDEX ix_event_run_id ON event (run, id);
CREATE INDEX ix_metric_run_id ON metric (run, id);
CREATE INDEX ix_metric_run_name_id ON metric (run, name, id);
CREATE INDEX ix_rollup_run_name ON rollup (run, name, last_metric);
CREATE INDEX ix_consumed_artifact ON consumed (artifact);
CREATE INDEX ix_response_prompt_key ON response (prompt_key);
CREATE INDEX ix_response_run_id ON response (run, id);
CREATE INDEX ix_score_artifact ON score (artifact, suite_hash);
CREATE INDEX ix_score_run_id ON score (run, id);
COMMIT;
